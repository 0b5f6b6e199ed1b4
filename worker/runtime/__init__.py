"""What keeps the handler's promises alive: lanes, effects in flight, position, commit, retry, supervision."""
