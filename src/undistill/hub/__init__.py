"""What goes to the Hugging Face hub: cards of heads and of pairs data sets, and the data sets themselves."""
