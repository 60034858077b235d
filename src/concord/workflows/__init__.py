"""What joins the rooms: a run from recipe to page."""
