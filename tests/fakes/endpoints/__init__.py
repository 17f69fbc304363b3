"""
Fake servers of the identity providers that the provider signs in with: Entra ID,
Kubernetes, and host metadata.

They listen on the loopback interface. The real clients, botocore and azure-identity,
use them unmodified.
"""
