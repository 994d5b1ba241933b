"""The job `tls`: what post-quantum signatures do to a TLS handshake, from scheme to milliseconds."""
