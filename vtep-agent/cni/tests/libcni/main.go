// A client on libcni, as container engines in Go are: runs one verb for a network list and prints the result.
//
//	client VERB LIST CACHE CONTAINER NETNS INTERFACE CAPABILITIES CNI_ARGS
//
// CAPABILITIES is a JSON object, CNI_ARGS a list of KEY=VALUE with semicolons between. CNI_PATH has the folders of plugins.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
)

func run(words []string) error {
	if len(words) != 8 {
		return fmt.Errorf("expected 8 arguments, got %d", len(words))
	}
	list, err := libcni.ConfListFromFile(words[1])
	if err != nil {
		return err
	}
	runtime := libcni.RuntimeConf{
		ContainerID: words[3],
		NetNS:       words[4],
		IfName:      words[5],
	}
	if err := json.Unmarshal([]byte(words[6]), &runtime.CapabilityArgs); err != nil {
		return err
	}
	for _, pair := range strings.Split(words[7], ";") {
		if key, value, found := strings.Cut(pair, "="); found {
			runtime.Args = append(runtime.Args, [2]string{key, value})
		}
	}
	cni := libcni.NewCNIConfigWithCacheDir(filepath.SplitList(os.Getenv("CNI_PATH")), words[2], nil)
	switch words[0] {
	case "ADD":
		result, err := cni.AddNetworkList(context.Background(), list, &runtime)
		if err != nil {
			return err
		}
		return result.Print()
	case "CHECK":
		return cni.CheckNetworkList(context.Background(), list, &runtime)
	case "DEL":
		return cni.DelNetworkList(context.Background(), list, &runtime)
	case "VALIDATE":
		capabilities, err := cni.ValidateNetworkList(context.Background(), list)
		fmt.Println(strings.Join(capabilities, " "))
		return err
	}
	return fmt.Errorf("unknown verb %s", words[0])
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
