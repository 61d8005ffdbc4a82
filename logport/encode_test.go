package logport

import (
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/flogtool/flogtool/event"
)

// TestReservedKeys: the quick test for keys of ours rejects none of them.
func TestReservedKeys(t *testing.T) {
	for _, key := range reservedKeys {
		if !mayBeReserved(key) {
			t.Errorf("mayBeReserved(%q) is false", key)
		}
	}
	e := encoder{}
	for _, key := range reservedKeys {
		m := noMeta
		b := e.appendTop(event.AppendRecordHead(nil, 0, event.Operational), &m, &slog.Attr{Key: key, Value: slog.Float64Value(1.5)})
		ev, err := event.Record(b).Event(7, "84e8b6d1ce3c35a4")
		if err != nil {
			t.Fatal(err)
		}
		want := key + "_"
		switch key {
		case facilityKey, umidKey, parentKey:
			want = key // ours, and of a value that says nothing to us kept as it is
		}
		if _, ok := ev.Get(want); !ok {
			t.Errorf("an attribute %q is not kept as %q: %s", key, want, ev.AppendJSON(nil))
		}
		if n, _ := ev.Num(); n != 7 || ev.Incarnation() != "84e8b6d1ce3c35a4" || ev.Level() != event.Operational {
			t.Errorf("an attribute %q changed what is ours: %s", key, ev.AppendJSON(nil))
		}
	}
}

// TestDraftsTakeBasicValues: what a draft takes is what a buffer would hold, and it
// refuses what may call the application, or has no room.
func TestDraftsTakeBasicValues(t *testing.T) {
	e := encoder{}
	head := event.AppendRecordHead(nil, 0, event.Operational)
	for _, a := range []slog.Attr{
		slog.String("s", "text"), slog.Int("i", -5), slog.Uint64("u", 1<<63), slog.Float64("f", 1.5), slog.Bool("b", true),
		slog.Any("nil", nil), slog.String("password", "xyz"), Umid("4yewzb"),
	} {
		room := make([]byte, 0, 1000)
		facility := ""
		draft, ok := appendDraft(append(room, head...), &a, &facility)
		m := noMeta
		if buffered := e.appendTop(head[:len(head):len(head)], &m, &a); !ok || string(draft) != string(buffered) {
			t.Errorf("%v is %q in a draft (%v), %q in a buffer", a, draft, ok, buffered)
		}
		if _, ok := appendDraft(make([]byte, 0, basicSize), &slog.Attr{Key: "long", Value: slog.StringValue("12345")}, &facility); ok {
			t.Error("a draft took what has no room")
		}
	}
	for _, a := range []slog.Attr{
		slog.Any("e", struct{ A int }{1}), slog.Group("g", slog.Int("i", 1)), slog.Any("level", 3), Parent(4), Format("%(x)s"),
	} {
		facility := ""
		if _, ok := appendDraft(make([]byte, 0, 1000), &a, &facility); ok {
			t.Errorf("a draft took %v", a)
		}
	}
	facility := "app"
	a := Facility("app.db")
	if _, ok := appendDraft(make([]byte, 0, 1000), &a, &facility); ok || facility != "app.db" {
		t.Errorf("a draft of another facility goes on (%v), and names %q", ok, facility)
	}
}

func TestCutText(t *testing.T) {
	for _, c := range []struct {
		text string
		max  int
		want string
	}{
		{"short", 5, "short"},
		{"a longer text than fits here", 20, "a longe…(28 bytes)"},
		{strings.Repeat("é", 20), 21, "éééé…(40 bytes)"},
		{"none of this fits", 3, "…(17 bytes)"},
	} {
		got := cutText(c.text, c.max)
		if got != c.want || !utf8.ValidString(got) {
			t.Errorf("cutText(%q, %d) = %q, want %q", c.text, c.max, got, c.want)
		}
	}
}

// TestShrink: an event that is too long keeps its beginning, says how long its texts
// were, and counts the fields that it leaves out.
func TestShrink(t *testing.T) {
	b := event.AppendRecord(nil, 5, event.Unusual, strings.Repeat("m", 5000))
	for range 200 {
		b = event.AppendString(event.AppendKey(b, "k"+strings.Repeat("y", 20)+string(rune('a'+len(b)%26))+strings.Repeat("z", len(b)%7)), strings.Repeat("v", 200))
	}
	for _, most := range []int{20_000, 3000, 500, 60} {
		out := shrink(b, most)
		e, err := event.Record(out).Event(1, "x")
		if err != nil || len(out) > most || e.Level() != event.Unusual {
			t.Errorf("shrink to %d gives %d bytes, %v: %.100s", most, len(out), err, e.AppendJSON(nil))
		}
		if most >= 500 && most <= 3000 && !strings.Contains(e.Text("message"), "…(5000 bytes)") {
			t.Errorf("the message is %.100q", e.Text("message"))
		}
	}
}
