"""What stores need of their backends: plain classes, and the pure functions of documents."""
