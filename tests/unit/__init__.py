"""What ``make test`` runs of the provider, in the shape of the package."""
