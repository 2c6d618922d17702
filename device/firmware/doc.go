// Package firmware is what a device does with an MCUboot image before it
// installs it: it decrypts one that is encrypted, holds it against the keys,
// the device class and the security counter that it has, writes it beside the
// one that runs, and raises its own counter only when the new image has proved
// to work.
//
// A bootloader checks again at every start. That the device checks first
// saves it from a restart into an image that will be thrown out, and tells
// whoever sent the image why.
package firmware
