"""results.json as a page: parts that a page is put together from, and the pages."""
