"""The commands: words in; sentences and exit statuses out."""
