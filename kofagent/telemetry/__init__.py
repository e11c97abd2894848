"""The data model: what travels through a pipeline, who refuses it and who counts it. No I/O."""
