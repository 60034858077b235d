"""Two runs side by side: read (`run`), paired and measured (`measure`), and drawn as a page (`page`)."""
