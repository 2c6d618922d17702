// Package devicesim plays the world outside the server: a factory that
// builds units and hands in a signed manifest, a fleet that powers on, QA
// rigs, and those who misbehave. It uses the device package and the wire, and
// nothing of the server's.
package devicesim
