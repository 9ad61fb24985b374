"""The node's faces to the outside: gRPC for clients, agents and operators."""
