package logport

// MaskText returns a text as it is recorded.
func MaskText(s string) string { return maskText(s) }
