"""Files: npz arrays, checkpoints, and safe readers of foreign formats."""
