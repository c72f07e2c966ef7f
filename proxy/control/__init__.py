"""What shows and steers: configuration, admin server, metrics, logs."""
