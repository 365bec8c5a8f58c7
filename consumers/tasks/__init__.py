"""What a task module uses to define tasks, and what a task uses while it runs."""
