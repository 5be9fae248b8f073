"""Images with boxes: read, judged, drawn and written in the formats that annotation tools use."""
