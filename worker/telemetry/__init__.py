"""What operators see: log events and metrics, each module opening with its catalogue.  Knows nothing of the runtime."""
