// The main job by the official Go SDK, of the generation that MODAL_SANDBOX_V2 says. Prints what holds.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"regexp"
	"time"

	modal "github.com/modal-labs/modal-client/go"
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func holds(what string, yes bool) {
	if !yes {
		log.Fatal("does not hold: ", what)
	}
	fmt.Println("holds:", what)
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	client := must(modal.NewClient())
	app := must(client.Apps.FromName(ctx, "sdk-go", &modal.AppFromNameParams{CreateIfMissing: true}))
	image := client.Images.FromRegistry("base", nil)
	sandbox := must(client.Sandboxes.Create(ctx, app, image, &modal.SandboxCreateParams{
		Command: []string{"sleep", "600"},
		Env:     map[string]string{"GREETING": "hello"},
		Workdir: "/tmp",
		Timeout: 5 * time.Minute,
	}))
	shape := `^sb-[0-9A-Z]{26}$`
	if os.Getenv("MODAL_SANDBOX_V2") == "0" {
		shape = `^sb-[0-9A-Za-z]{22}$`
	}
	holds("the id has the shape of its generation", regexp.MustCompile(shape).MatchString(sandbox.SandboxID))

	process := must(sandbox.Exec(ctx, []string{"sh", "-c", "echo $GREETING; pwd; echo oops >&2; exit 3"}, nil))
	out := must(io.ReadAll(process.Stdout))
	errors := must(io.ReadAll(process.Stderr))
	code := must(process.Wait(ctx, nil))
	holds("an exec has its output, its errors and its exit code",
		string(out) == "hello\n/tmp\n" && string(errors) == "oops\n" && code == 3)

	cat := must(sandbox.Exec(ctx, []string{"cat"}, nil))
	must(cat.Stdin.Write([]byte("one\n")))
	must(cat.Stdin.Write([]byte("two\n")))
	if err := cat.Stdin.Close(); err != nil {
		log.Fatal(err)
	}
	holds("what is written to stdin arrives, and its end too", string(must(io.ReadAll(cat.Stdout))) == "one\ntwo\n")

	second := must(client.Sandboxes.Create(ctx, app, image, nil))
	holds("a second sandbox without a name clashes with none", second.SandboxID != sandbox.SandboxID)
	for _, each := range []*modal.Sandbox{sandbox, second} {
		must(each.Terminate(ctx, &modal.SandboxTerminateParams{Wait: true}))
	}
	holds("a sandbox ends when it is told to", *must(sandbox.Poll(ctx, nil)) == 137)
	fmt.Println("sandbox", sandbox.SandboxID)
}
