// Package deploy runs examples/cluster in containers.
//
//	Dockerfile       one node: a static program, in an image without a shell
//	kubernetes.yaml  three nodes that find each other, behind a Service
//	secret.sh        prints the Secret for it: what nodes prove to each other, and their certificate
//	compose.yaml     three nodes on one machine, with a NATS server and haproxy.cfg in front
//
// Its tests hold these files to the types of Kubernetes and the schema of compose files, and the flags in them to those of the program.
package deploy
