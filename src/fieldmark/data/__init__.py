"""Images in: sources, tables, splits, safe decoding, loaders, drawn samples."""
