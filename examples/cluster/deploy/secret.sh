#!/bin/sh
# Prints the Secret of kubernetes.yaml: a text that nodes prove to each other, and a certificate for their connections, which is good for a
# year and signed by an authority of its own, whose key is thrown away. To renew: run it again, apply it, and
# kubectl rollout restart statefulset chat. Nodes with the old one and nodes with the new one do not connect to each other: for a renewal
# without a split use cert-manager, whose authority stays.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=chat nodes' authority" -keyout ca.key -out ca.crt 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=chat node" -keyout tls.key -out tls.csr 2>/dev/null
cat >extensions <<EOF
subjectAltName = DNS:*.chat-nodes
extendedKeyUsage = serverAuth, clientAuth
keyUsage = digitalSignature
EOF
openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -extfile extensions -out tls.crt 2>/dev/null
encoded() { openssl base64 -A <"$1"; }
cat <<EOF
apiVersion: v1
kind: Secret
metadata:
  name: chat-nodes
  labels: {app: chat}
type: Opaque
stringData:
  secret: "$(openssl rand -hex 32)"
data:
  tls.crt: $(encoded tls.crt)
  tls.key: $(encoded tls.key)
  ca.crt: $(encoded ca.crt)
EOF
