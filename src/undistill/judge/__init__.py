"""Human judges: which of two pictures looks more like a photograph?"""
