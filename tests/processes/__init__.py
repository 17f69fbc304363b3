"""What only a process of its own shows, and seldom fails: forks, output, signals and imports."""
