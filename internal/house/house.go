// Package house holds the house in order: its test reads the imports of
// every package of this module and holds them to the rules of who may import
// whom. The rules stand in rules_test.go, each with its reason.
//
// It is a package of its own because the rules belong to no single room, and
// it is empty but for its tests because nothing should be able to import it.
package house
