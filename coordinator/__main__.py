"""`coordinator`, or `python -m coordinator`: the program, in a process whose gRPC has its engine chosen."""

from __future__ import annotations

from coordinator.api.grpc_engine import use_polling_engine


def main() -> None:
    """Run the command line; does not return."""
    use_polling_engine()
    # Imported here, since it imports gRPC.
    from coordinator.cli.server import main as program

    program(prog_name="coordinator")


if __name__ == "__main__":
    main()
