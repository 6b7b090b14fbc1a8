"""pytest's side of the project: options, markers, fixtures, header and summary."""
