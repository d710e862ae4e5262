"""What the shipped parts were compared with and won against: components of their own, which no command needs."""
