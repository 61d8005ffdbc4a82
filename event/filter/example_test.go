package filter_test

import (
	"fmt"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
)

func ExampleFilter() {
	slow, err := filter.Compile(`level >= WEIRD && program == "orders" && attrs.path startsWith "/api/"`)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, json := range []string{
		`{"level": 30, "message": "slow", "path": "/api/list", "source": "api/list.go:41"}`,
		`{"level": 20, "message": "fast", "path": "/api/list"}`,
	} {
		e, err := event.ParseEvent([]byte(json))
		if err != nil {
			fmt.Println(err)
			return
		}
		ok, err := slow.MatchFrom(e, filter.Origin{From: "4yewzbar", Program: "orders"})
		fmt.Println(e.Text("message"), ok, err)
	}
	// Output:
	// slow true <nil>
	// fast false <nil>
}

// An error says where the expression is wrong.
func ExampleCompile() {
	_, err := filter.Compile(`level >= WEIRD && facilty == "net"`)
	fmt.Println(err)
	// Output:
	// 1:19: unknown name facilty
	//   level >= WEIRD && facilty == "net"
	//                     ^
}

func ExampleRule() {
	rule, err := filter.CompileRule(`any(before("10s"), .message contains "disk full") ? "disk-full" : nil`)
	if err != nil {
		fmt.Println(err)
		return
	}
	at := func(num int64, seconds float64, message string) *event.Event {
		return &event.Event{Fields: []event.Field{{Key: "num", Value: num}, {Key: "time", Value: seconds}, {Key: "message", Value: message}}}
	}
	events := []*event.Event{at(0, 100, "disk full"), at(1, 105, "cannot save")}
	categories, err := rule.Run(&filter.RuleInput{
		Trigger: events[1],
		Events:  func() ([]*event.Event, error) { return events, nil },
	})
	fmt.Println(categories, err)
	// Output: [disk-full] <nil>
}

func ExampleRule_Warnings() {
	rule, err := filter.CompileRule(`level > 40 && level < 10 ? "never" : nil`)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, w := range rule.Warnings() {
		fmt.Println(w.Msg)
	}
	// Output: level cannot be both > 40 and < 10: this is never true
}
