"""The other ways to train the same model on the same rows: sentence-transformers (`st`) and the blog's recipe (`blog`)."""
