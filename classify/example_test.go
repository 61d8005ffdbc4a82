package classify_test

import (
	"fmt"
	"testing/fstest"

	"github.com/flogtool/flogtool/classify"
	"github.com/flogtool/flogtool/event"
)

// Each rule is a file; an incident gets the categories of all rules that match.
func ExampleRules_Classify() {
	rules, err := classify.LoadFS(fstest.MapFS{ // or classify.Load(dir)
		"classify_disk-full.expr": {Data: []byte(`
// The disk is full: free space, or move the spool.
message contains "no space left" ? "disk-full" : nil`)},
		"classify_orders.expr": {Data: []byte(`
// Anything of the program orders.
program == "orders" ? ["orders", level >= BAD ? "orders-bad" : nil] : nil`)},
	}, "rules")
	if err != nil {
		fmt.Println(err)
		return
	}
	trigger, err := event.ParseEvent([]byte(`{"num": 7, "level": 40, "message": "write: no space left on device"}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	result := rules.Classify(&classify.Incident{Trigger: trigger, Header: event.Dict{{Key: "program", Value: "orders"}}})
	fmt.Println(result.Categories, len(result.Errors))
	// Output: [disk-full orders orders-bad] 0
}
