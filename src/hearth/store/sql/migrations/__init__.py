"""The steps from one schema to the next: numbered, and safe while the previous version still runs."""
