"""
Credentials and permissions: STS and its sessions, web identity tokens and their
issuers, and the evaluation of the policies in moto's IAM.
"""
