"""The geometry wing: moments of features, collapse metrics, and the synthesis of prototypes."""
