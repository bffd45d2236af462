"""The objective wing: settings of the terminal objective (7), losses, terms, and the refitted classifier."""
