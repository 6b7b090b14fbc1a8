"""What verdicts are worth: how often they are right where the truth is known."""
