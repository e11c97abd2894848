"""The only room that knows protobuf bytes. Imports nothing of ours."""
