"""From figures and checks to a verdict: tolerances, judgements, likely causes."""
