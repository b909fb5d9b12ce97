// What makes a function a program: its input is what is read, its output what is written, and its errors end the run.
package main

import (
	kilnFmt "fmt"
	kilnIO "io"
	kilnOS "os"
	kilnDebug "runtime/debug"
	kilnUnsafe "unsafe"
)

//go:wasmimport kiln fail
func kilnFail(message kilnUnsafe.Pointer, size uint32)

func kilnStop(message string) {
	if message == "" {
		message = "the function returned an error without a message"
	}
	kilnFail(kilnUnsafe.Pointer(kilnUnsafe.StringData(message)), uint32(len(message)))
}

func kilnRun(input []byte) (output []byte, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			kilnDebug.PrintStack()
			err = kilnFmt.Errorf("panic: %v", cause)
		}
	}()
	var function func(input []byte) ([]byte, error) = Handle
	return function(input)
}

func main() {
	output := kilnOS.Stdout
	// What the function prints is a log, and no part of its output.
	kilnOS.Stdout = kilnOS.Stderr
	input, err := kilnIO.ReadAll(kilnOS.Stdin)
	if err != nil {
		kilnStop(err.Error())
	}
	result, err := kilnRun(input)
	if err != nil {
		kilnStop(err.Error())
	}
	if _, err := output.Write(result); err != nil {
		kilnStop(err.Error())
	}
}
