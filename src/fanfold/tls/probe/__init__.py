"""`fanfold tls probe`: the largest chain that a client accepts.

command ──run against a server with n certificates more──▶ Answer ──search──▶ Limit: a number, or bytes, or none
"""
