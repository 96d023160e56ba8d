"""What MLflow's model server loads."""
