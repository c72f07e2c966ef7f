"""What the tests share: scripted upstreams, a raw client, a sidecar with its clock in hand."""
