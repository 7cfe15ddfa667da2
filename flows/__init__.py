"""What happens after what: one flow a file, whose body reads as the plan. `flows.cli` is the command line."""
