"""Who may do what on the broker: users and their rights, through its management API."""
