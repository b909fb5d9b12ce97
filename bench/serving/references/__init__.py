"""What Kiln is measured against: the smallest programs that take the same requests and give the same answers."""
