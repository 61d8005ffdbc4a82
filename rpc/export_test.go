package rpc

// BudgetUsed returns how many bytes of the Tub's memory for messages are charged.
func BudgetUsed(t *Tub) int64 { return t.budget.used.Load() }
