"""Other runtimes on the same model: how their files are made and how they run them."""
