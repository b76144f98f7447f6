"""What the Locust run is made of, apart from Locust: orders, the pump, the desk, the verdict."""
