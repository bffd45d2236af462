"""The experiment wing: the configuration, the plan of runs that it asks for, and what they need. Nothing heavy."""
