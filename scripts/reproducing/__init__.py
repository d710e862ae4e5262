"""The commands behind the paper's figures and tables, and the runner of the missing ones."""
