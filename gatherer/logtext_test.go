package gatherer

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/slogtest"
)

func TestTextLimit(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(textLimit{slog.NewTextHandler(&out, nil)})
	long := strings.Repeat("é", 100_000)
	log.With("with", long).WithGroup("g").Error("m", "text", long, "err", errors.New(long), slog.Group("in", "text", long))
	if out.Len() > 4*(maxLogText+100) || strings.Count(out.String(), "…(200000 bytes)") != 4 {
		t.Errorf("the line has %d bytes: %.5000s", out.Len(), out.String())
	}
	out.Reset()
	log.Error("m", "err", errors.New("short"), "n", 5)
	if !strings.Contains(out.String(), "err=short n=5") {
		t.Errorf("the line is %s", out.String())
	}
}

func TestTextLimitIsAHandler(t *testing.T) {
	var out bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		out.Reset()
		return textLimit{slog.NewJSONHandler(&out, nil)}
	}, func(t *testing.T) map[string]any {
		var m map[string]any
		if err := json.Unmarshal(out.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		return m
	})
}
