package logport_test

import (
	"context"
	"log/slog"
)

// logFromFar logs from a statement whose place has a long name.
//
//line a_package_with_a_name_that_goes_on_and_on_for_a_while/a_file_with_a_name_that_goes_on_as_well_and_does_not_end_soon.go:100000
func logFromFar(l *slog.Logger, msg string, i int, body string) {
	l.LogAttrs(context.Background(), slog.LevelInfo, msg, slog.Int("i", i), slog.String("body", body))
}
