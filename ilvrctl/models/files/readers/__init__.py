"""How each readable format becomes a network: one file a format, one row of ``formats.FORMATS`` each."""
